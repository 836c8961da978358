"""netferry carries trained networks between formats. Nothing heavy is imported until it is used."""

__version__ = "0.1.0"
