"""Turnwire: a self-hosted server of the OpenAI Responses API with WebSocket mode."""

__all__ = ["__version__"]

__version__ = "0.1.0"
