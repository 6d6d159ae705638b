"""data2vec: the method, and the parts that only it uses."""

from .method import Data2Vec, Data2VecConfig

__all__ = ["Data2Vec", "Data2VecConfig"]
