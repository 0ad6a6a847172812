"""Tells how fast a named model trains and predicts on this machine, and in how much memory.
"""
