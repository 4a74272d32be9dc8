"""Every setting's file, one folder a config group; `CONF_DIR` says where they are installed."""

from pathlib import Path

CONF_DIR = Path(__file__).parent
