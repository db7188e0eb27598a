"""Names of the slots that the package reads or writes in an AnnData."""

from __future__ import annotations

from dataclasses import dataclass

COUNTS_LAYER = "counts"


@dataclass(frozen=True)
class Slots:
    """Slot names under one prefix; ``key_added`` of the public calls sets the prefix."""

    prefix: str = "scquery"

    @property
    def embedding(self) -> str:
        """``obsm``: float32 ``(n_obs, n_latent)``."""
        return f"X_{self.prefix}"

    @property
    def label(self) -> str:
        """``obs``: categorical, the transferred label."""
        return f"{self.prefix}_label"

    @property
    def confidence(self) -> str:
        """``obs``: float32, calibrated probability of the label."""
        return f"{self.prefix}_confidence"

    @property
    def pvalue(self) -> str:
        """``obs``: float32, conformal p-value of belonging to the reference."""
        return f"{self.prefix}_pvalue"

    @property
    def novelty(self) -> str:
        """``obs``: float32, novelty score; larger means less like the reference cells of a type."""
        return f"{self.prefix}_novelty"

    @property
    def unknown(self) -> str:
        """``obs``: bool, whether the p-value is at most ``alpha``."""
        return f"{self.prefix}_unknown"

    @property
    def prediction_set(self) -> str:
        """``obs``: categorical, prediction set: labels that are not ruled out, joined by ``|``."""
        return f"{self.prefix}_prediction_set"

    @property
    def label_coarse(self) -> str:
        """``obs``: categorical, one term of the Cell Ontology for each prediction set."""
        return f"{self.prefix}_label_coarse"

    @property
    def split(self) -> str:
        """``obs``: categorical, ``train`` or ``validation`` in fine-tuning, missing for unlabelled cells."""
        return f"{self.prefix}_split"

    @property
    def neighbors(self) -> str:
        """``obsm``: int64 ``(n_obs, n_neighbors)``, rows of the reference."""
        return f"{self.prefix}_neighbors"

    @property
    def distances(self) -> str:
        """``obsm``: float32 ``(n_obs, n_neighbors)``, cosine distances."""
        return f"{self.prefix}_distances"

    @property
    def uns(self) -> str:
        """``uns``: provenance (reference hash, versions, parameters, gene report)."""
        return self.prefix

    @property
    def transform(self) -> str:
        """``uns``: the fitted normalisation."""
        return f"{self.prefix}_transform"
