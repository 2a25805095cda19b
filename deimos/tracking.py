"""The record in MLflow, for notebooks: everything they write to it and read back, by one name."""

from deimos.data import ROOT as ROOT  # the store and the notebooks lie under it
from deimos.record import store
from deimos.record.archive import read_references as read_references
from deimos.record.executions import SCALES as SCALES
from deimos.record.executions import Experiment as Experiment
from deimos.record.executions import close_execution as close_execution
from deimos.record.executions import execution_summary as execution_summary
from deimos.record.executions import experiment as experiment
from deimos.record.executions import log_figure as log_figure
from deimos.record.executions import log_table as log_table
from deimos.record.executions import log_verdicts as log_verdicts
from deimos.record.executions import open_execution as open_execution
from deimos.record.fleets import fleet as fleet
from deimos.record.fleets import log as log
from deimos.record.fleets import log_instances as log_instances
from deimos.record.results import acquired_ids as acquired_ids
from deimos.record.results import doubts as doubts
from deimos.record.results import minutes as minutes
from deimos.record.results import notes as notes
from deimos.record.results import provenance as provenance
from deimos.record.results import published as published
from deimos.record.results import table as table
from deimos.record.saved_views import view as view
from deimos.record.ui import links as links

store_uri = store.uri
