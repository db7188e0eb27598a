"""Writing results into an AnnData, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData


def write_results(
    adata: AnnData,
    *,
    obs: dict[str, Any] | None = None,
    obsm: dict[str, Any] | None = None,
    uns: dict[str, Any] | None = None,
) -> str:
    """Write finished results to their slots. Nothing is computed here, so no error leaves half of them.

    A view becomes an actual AnnData first, as in scanpy.

    Returns
    -------
    The slots in words, such as ``"obs['scquery_split']"``.
    """
    if adata.is_view:
        adata._init_as_actual(adata.copy())
    written = []
    for slot, values in (("obs", obs), ("obsm", obsm), ("uns", uns)):
        for name, value in (values or {}).items():
            getattr(adata, slot)[name] = value
            written.append(f"{slot}[{name!r}]")
    return ", ".join(written)
