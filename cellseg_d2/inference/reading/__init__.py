"""Images of any kind as frames of grey values: formats, axes, what their metadata say, and adaptation to a model."""
