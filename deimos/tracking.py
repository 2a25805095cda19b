"""The record's one door: everything that is written to it and read back, by one name.

Notebooks need `experiment`, `fleet`, `log`, `evidence` and `table`; what shows the record, queries,
saved views and the UI as well.
"""

from deimos.record import queries as queries
from deimos.record import saved_views as saved_views
from deimos.record import store
from deimos.record import ui as ui
from deimos.record.archive import REFERENCES as REFERENCES
from deimos.record.archive import contents as contents
from deimos.record.archive import read_references as read_references
from deimos.record.evidence import PAUSE as PAUSE
from deimos.record.evidence import Evidence as Evidence
from deimos.record.evidence import Origin as Origin
from deimos.record.evidence import evidence as evidence
from deimos.record.evidence import of_archives as of_archives
from deimos.record.executions import SCALES as SCALES
from deimos.record.executions import Experiment as Experiment
from deimos.record.executions import close_execution as close_execution
from deimos.record.executions import end_the_dead as end_the_dead
from deimos.record.executions import executed_folder as executed_folder
from deimos.record.executions import execution_summary as execution_summary
from deimos.record.executions import experiment as experiment
from deimos.record.executions import experiment_id as experiment_id
from deimos.record.executions import log_figure as log_figure
from deimos.record.executions import log_table as log_table
from deimos.record.executions import log_verdicts as log_verdicts
from deimos.record.executions import open_execution as open_execution
from deimos.record.fleets import fleet as fleet
from deimos.record.fleets import log as log
from deimos.record.fleets import log_instances as log_instances
from deimos.record.fleets import planning as planning
from deimos.record.points import acquired_predictions as acquired_predictions
from deimos.record.points import held_out_ids as held_out_ids
from deimos.record.points import initial_ids as initial_ids
from deimos.record.process_locks import exclusive as exclusive
from deimos.record.provenance import code_fingerprint as code_fingerprint
from deimos.record.provenance import machine as machine
from deimos.record.queries import ANY_SCALE as ANY_SCALE
from deimos.record.queries import LAST_NOTEBOOK as LAST_NOTEBOOK
from deimos.record.queries import REFERENCE as REFERENCE
from deimos.record.queries import own_scales as own_scales
from deimos.record.results import acquired_ids as acquired_ids
from deimos.record.results import metric_name as metric_name
from deimos.record.results import table as table
from deimos.record.saved_views import view as view
from deimos.record.store import NOTE as NOTE
from deimos.record.store import artifact_location as artifact_location
from deimos.record.store import client as client
from deimos.record.store import log_inputs as log_inputs
from deimos.record.store import log_metrics as log_metrics
from deimos.record.store import own_file as own_file
from deimos.record.store import set_experiment_tag as set_experiment_tag
from deimos.record.store import sqlite_file as sqlite_file
from deimos.record.store import why as why
from deimos.record.ui import links as links
from deimos.tasks.files import ROOT as ROOT  # the store and the notebooks lie under it

store_uri = store.uri
