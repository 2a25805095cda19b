"""The record in MLflow, for notebooks: everything they write to it and read back, by one name."""

from deimos.record import store
from deimos.record.archive import REFERENCES as REFERENCES
from deimos.record.archive import read_references as read_references
from deimos.record.evidence import Evidence as Evidence
from deimos.record.evidence import Origin as Origin
from deimos.record.evidence import evidence as evidence
from deimos.record.evidence import of_archives as of_archives
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
from deimos.record.points import acquired_predictions as acquired_predictions
from deimos.record.points import held_out_ids as held_out_ids
from deimos.record.points import initial_ids as initial_ids
from deimos.record.queries import LAST_NOTEBOOK as LAST_NOTEBOOK
from deimos.record.queries import REFERENCE as REFERENCE
from deimos.record.results import acquired_ids as acquired_ids
from deimos.record.results import table as table
from deimos.record.saved_views import view as view
from deimos.record.ui import links as links
from deimos.tasks.files import ROOT as ROOT  # the store and the notebooks lie under it

store_uri = store.uri
