"""Code: designs as one Python file each, run in a process of its own without files or network. Off by default."""

from engram_core.designs.code.design import CodeDesign, checked
from engram_core.designs.code.sandbox import Limits, Sandbox, require_sandbox

__all__ = ["CodeDesign", "Limits", "Sandbox", "checked", "require_sandbox"]
