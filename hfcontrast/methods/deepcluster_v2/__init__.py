"""DeepCluster v2: the method, and the parts that only it uses."""

from .method import DeepClusterV2, DeepClusterV2Config

__all__ = ["DeepClusterV2", "DeepClusterV2Config"]
