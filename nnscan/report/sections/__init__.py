"""Which figures and tables a scan has, in the order of the page."""

from __future__ import annotations

from collections.abc import Iterator

from nnscan.report.material import Material
from nnscan.report.sections import batches, boards, failures, grid, headline, learning, testing
from nnscan.report.sections.section import Section


def sections(material: Material, rerun: str) -> Iterator[Section]:
    """Yield the sections of the page; what the scan has nothing for is left out.

    Parameters
    ----------
    rerun : str
        The command that launches the scan, to which `--cluster inline --trial KEY` is put.
    """
    for found in (
        *(headline.section(material), boards.section(material), learning.section(material), grid.section(material)),
        *(testing.section(material), testing.pictures_section(material), batches.section(material)),
        *(failures.section(material, rerun), headline.origin(material)),
    ):
        if found is not None:
            yield found
