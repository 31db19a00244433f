"""What became of a network in an engine: which nodes each kernel does the work of, and why.

open_fusion(source)       anything that tells of an engine's layers: a stored engine, inspector JSON, trtexec's files
link(layers, nodes)       ONNX nodes and layers linked many to many, the kind of every fusion, the fate of every node
story(log)                what the builder did, pass by pass
diff(before, after)       two engines of one model
"""

from workbench.fusion.difference import Change, FusionDiff, diff
from workbench.fusion.linking import KERNELS, Fate, Fusion, Group, link
from workbench.fusion.nodes import Node, nodes_of
from workbench.fusion.opening import OpenedFusion, open_fusion
from workbench.fusion.story import Pass, Step, story

__all__ = [
    "KERNELS",
    "Change",
    "Fate",
    "Fusion",
    "FusionDiff",
    "Group",
    "Node",
    "OpenedFusion",
    "Pass",
    "Step",
    "diff",
    "link",
    "nodes_of",
    "open_fusion",
    "story",
]
