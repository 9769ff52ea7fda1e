"""Published data sets: got file by file, checked, gone on with after a break, and noted in ``download.json``.

:func:`.livecell.wanted_files` names LIVECell's files, :func:`.collect.collect` gets them.
"""

from .collect import collect, read_hashes
from .livecell import BASE_URL, LICENCE, wanted_files
from .transfer import Transfer

__all__ = ["BASE_URL", "LICENCE", "Transfer", "collect", "read_hashes", "wanted_files"]
