"""Single-cell queries with tied-weight autoencoders.

``pp`` normalises, ``tl`` trains, embeds and queries, ``pl`` plots, ``nn`` holds the Keras layers. Each name is imported
on first use: ``import scquery_ae`` loads neither TensorFlow nor matplotlib.

The public names are listed in ``__init__.pyi``. lazy_loader reads them from there, and so do editors and type checkers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
