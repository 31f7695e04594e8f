"""Installed as ``optimum/commands/register/register_glass.py``, where optimum-cli looks for it.

That folder belongs to a namespace package which several distributions share: it has no __init__.py.
"""

from glass_export.cli.optimum import REGISTER_COMMANDS as REGISTER_COMMANDS
