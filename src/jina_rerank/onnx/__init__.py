"""Encoder rerankers in ONNX: for runtimes without torch, browsers among them."""

from .export import export_onnx

__all__ = ["export_onnx"]
