"""pyimportance turns what a model finds hard into where the bytes lie.

observe -> score -> order -> partition -> shards -> load -> account

Every public name is imported on first use, so that ``import pyimportance`` loads neither torch nor numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyimportance.account.baselines import VanillaDataset as VanillaDataset
    from pyimportance.account.report import IOReport as IOReport
    from pyimportance.errors import ArgumentError as ArgumentError
    from pyimportance.errors import DataError as DataError
    from pyimportance.errors import OutputError as OutputError
    from pyimportance.errors import PyimportanceError as PyimportanceError
    from pyimportance.load.dataset import ImportanceDataset as ImportanceDataset
    from pyimportance.load.webdataset.dataset import WebDataset as WebDataset
    from pyimportance.order import samplers as samplers
    from pyimportance.order.argsort import argsort as argsort
    from pyimportance.order.partition import partition as partition
    from pyimportance.order.place import Node as Node
    from pyimportance.order.place import Placement as Placement
    from pyimportance.order.place import place as place
    from pyimportance.order.quality import Quality as Quality
    from pyimportance.order.quality import quality as quality
    from pyimportance.order.ranking import NaNScoresWarning as NaNScoresWarning
    from pyimportance.order.select import select as select
    from pyimportance.order.values import Partition as Partition
    from pyimportance.score.calibration import Calibration as Calibration
    from pyimportance.score.calibration import calibration as calibration
    from pyimportance.score.calibration import fit_temperature as fit_temperature
    from pyimportance.score.dynamics import Dynamics as Dynamics
    from pyimportance.score.ensembles import Ensemble as Ensemble
    from pyimportance.score.labels import label_quality as label_quality
    from pyimportance.score.measures import measure as measure
    from pyimportance.score.measures import measures as measures
    from pyimportance.score.measures import score as score
    from pyimportance.score.measures import score_logits as score_logits
    from pyimportance.score.measures.given import ifd_flagged as ifd_flagged
    from pyimportance.score.tracker import Tracker as Tracker
    from pyimportance.score.uncertainty import depth_uncertainty as depth_uncertainty
    from pyimportance.score.uncertainty import duq_uncertainty as duq_uncertainty
    from pyimportance.score.uncertainty import evidential_uncertainty as evidential_uncertainty
    from pyimportance.score.uncertainty import pass_disagreement as pass_disagreement
    from pyimportance.score.uncertainty import pass_variance as pass_variance
    from pyimportance.score.values import Scores as Scores
    from pyimportance.shards.compact import compact as compact
    from pyimportance.shards.estimate import estimate as estimate
    from pyimportance.shards.generations import repartition as repartition
    from pyimportance.shards.index import index as index
    from pyimportance.shards.prune import prune as prune
    from pyimportance.shards.sample_index import SampleIndex as SampleIndex
    from pyimportance.shards.shard_set import ShardSet as ShardSet
    from pyimportance.shards.spool import spool as spool
    from pyimportance.shards.writer import write_shards as write_shards
    from pyimportance.train.batchnorm import pool_batchnorm as pool_batchnorm
    from pyimportance.train.controller import Controller as Controller
    from pyimportance.train.frameworks import OwnRanks as OwnRanks
    from pyimportance.train.frameworks import own_ranks as own_ranks
    from pyimportance.train.schedule import Schedule as Schedule

__version__ = "0.1.0"

# Public name -> the module that defines it.
_HOME = {
    "ArgumentError": "errors",
    "Calibration": "score.calibration",
    "Controller": "train.controller",
    "DataError": "errors",
    "Dynamics": "score.dynamics",
    "Ensemble": "score.ensembles",
    "IOReport": "account.report",
    "ImportanceDataset": "load.dataset",
    "ShuffleQuality": "load.quality",
    "shuffle_quality": "load.quality",
    "NaNScoresWarning": "order.ranking",
    "Node": "order.place",
    "OutputError": "errors",
    "OwnRanks": "train.frameworks",
    "Partition": "order.values",
    "Placement": "order.place",
    "PyimportanceError": "errors",
    "Quality": "order.quality",
    "SampleIndex": "shards.sample_index",
    "Schedule": "train.schedule",
    "Scores": "score.values",
    "ShardSet": "shards.shard_set",
    "Tracker": "score.tracker",
    "VanillaDataset": "account.baselines",
    "WebDataset": "load.webdataset.dataset",
    "argsort": "order.argsort",
    "calibration": "score.calibration",
    "compact": "shards.compact",
    "depth_uncertainty": "score.uncertainty",
    "duq_uncertainty": "score.uncertainty",
    "evidential_uncertainty": "score.uncertainty",
    "estimate": "shards.estimate",
    "fit_temperature": "score.calibration",
    "ifd_flagged": "score.measures.given",
    "index": "shards.index",
    "label_quality": "score.labels",
    "measure": "score.measures",
    "measures": "score.measures",
    "own_ranks": "train.frameworks",
    "partition": "order.partition",
    "pass_disagreement": "score.uncertainty",
    "pass_variance": "score.uncertainty",
    "place": "order.place",
    "pool_batchnorm": "train.batchnorm",
    "prune": "shards.prune",
    "quality": "order.quality",
    "repartition": "shards.generations",
    "samplers": "order",
    "score": "score.measures",
    "score_logits": "score.measures",
    "select": "order.select",
    "spool": "shards.spool",
    "write_shards": "shards.writer",
}

_FOLDERS = ("samplers",)  # a name that is a folder, itself full of names

__all__ = sorted(_HOME)  # noqa: PLE0605 (names are resolved by __getattr__)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pyimportance' has no attribute {name!r}")
    home = f"pyimportance.{_HOME[name]}"
    module = importlib.import_module(f"{home}.{name}" if name in _FOLDERS else home)
    value = module if name in _FOLDERS else getattr(module, name)
    # `score` names a verb and a folder. Importing the folder has set it here, and the folder can be called.
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
