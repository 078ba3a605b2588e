"""The other loaders. One that is not installed, or cannot be loaded, raises ImportError when it is made."""

from __future__ import annotations

from _load_ffcv import FFCV
from _load_peer import Peer
from _load_peers_own import ArrayRecord, LitData, MosaicML
from _load_peers_tar import Energon, Spdl, WebDataset, WebShart, Wids

PEERS: tuple[type[Peer], ...] = (
    *(WebDataset, Wids, MosaicML, LitData, WebShart, Spdl, ArrayRecord, Energon, FFCV),
)
