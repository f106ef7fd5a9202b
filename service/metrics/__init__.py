"""Every metric: name, labels, buckets, help; one method for each event (docs/operations.md lists them).

Labels are closed sets: route templates, statuses, names from the experiment file, bundles. A user, an item, a bucket
or a text that a client sent is never a label. A series whose labels are known from the start is there from the start,
at 0: a rate over a series that begins with its first event does not see that event.
"""

from service.metrics.exposition import CONTENT_TYPE, OPENMETRICS_TYPE
from service.metrics.http import REFUSALS
from service.metrics.metrics import Metrics
from service.metrics.ranking import STAGES

__all__ = ["CONTENT_TYPE", "OPENMETRICS_TYPE", "REFUSALS", "STAGES", "Metrics"]
