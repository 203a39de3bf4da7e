"""Genomes: designs as data. A JSON pipeline of registered, reviewed operators; nothing in it is ever run as code."""

from engram_core.designs.genome.compile import GenomeDesign, compiled
from engram_core.designs.genome.genome import Gene, Genome
from engram_core.designs.genome.registry import Operator, Params, Registry, registry

__all__ = ["Gene", "Genome", "GenomeDesign", "Operator", "Params", "Registry", "compiled", "registry"]
