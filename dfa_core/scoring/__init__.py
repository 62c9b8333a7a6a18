"""Loss and metrics of a data set that is evaluated in parts."""

from dfa_core.scoring.measure import Measure, Metrics, measured, named, number_of
from dfa_core.scoring.part_mean import PartMean
from dfa_core.scoring.part_report import PartMeter, PartReport, reports_of

__all__ = [
    "Measure",
    "Metrics",
    "PartMean",
    "PartMeter",
    "PartReport",
    "measured",
    "named",
    "number_of",
    "reports_of",
]
