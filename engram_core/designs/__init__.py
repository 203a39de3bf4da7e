"""Designs: programs that decide what to store and how to rank. They see a View, return proposals and write nothing."""
