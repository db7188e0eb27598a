"""Valid calls that read or write files: of references, ontologies and gene sets."""

from __future__ import annotations

import copy
from collections.abc import Callable

import scquery_ae as scq
from abuse.world import Draft, bundle, gmt, obo
from scquery_ae import gene_sets, ontology


def _save(draft: Draft) -> None:
    draft.owner = copy.deepcopy(draft.world.reference)
    draft.function = draft.owner.save
    target = draft.folder / draft.pick(["new.scq", "new.zip", "deep/er/new.scq"])
    if draft.rng.random() < 0.4:
        target = bundle(draft)
        draft.arguments["overwrite"] = bool(draft.rng.random() < 0.7)
    draft.arguments["path"] = target


def _load(draft: Draft) -> None:
    draft.function = scq.Reference.load
    draft.arguments = {"path": bundle(draft)}


def _add(draft: Draft) -> None:
    _own(draft, "add")
    adata = draft.world.query.copy()
    adata.obs_names = [f"new{i}" for i in range(adata.n_obs)]
    draft.arguments = {"adata": adata}


def _remove(draft: Draft) -> None:
    _own(draft, "remove")
    draft.arguments = draft.pick([{"names": ["cell1", "cell2"]}, {"where": {"batch": "batch 0"}}, {"names": "cell5"}])


def _relabel(draft: Draft) -> None:
    _own(draft, "relabel")
    draft.arguments = {"names": {"type 0": draft.pick(["type 9", "type 1"])}}


def _merge(draft: Draft) -> None:
    _own(draft, "merge")
    other = copy.deepcopy(draft.world.reference)
    if draft.rng.random() < 0.7:
        other.obs.index = [f"other {name}" for name in other.obs.index]
    draft.arguments = {"other": other}


def _own(draft: Draft, method: str) -> None:
    draft.owner = copy.deepcopy(draft.world.reference)
    draft.function = getattr(draft.owner, method)


#: Calls of a reference's methods, with their relative frequencies.
REFERENCES: dict[Callable[[Draft], None], float] = {
    _save: 5,
    _load: 14,
    _add: 5,
    _remove: 4,
    _relabel: 3,
    _merge: 2,
}


def _read_ontology(draft: Draft) -> None:
    draft.function = ontology.CellOntology.read
    draft.arguments = {"path": obo(draft)}


def _use_ontology(draft: Draft) -> None:
    cells = ontology.CellOntology.read(obo(draft))
    draft.function, draft.arguments = draft.pick(
        [
            (cells.find, {"term": "type 1"}),
            (cells.name, {"term": "CL:0000001"}),
            (cells.ancestors, {"term": "type 2"}),
            (cells.closest_common_ancestor, {"terms": ["type 1", "type 2"]}),
            (cells.similarity, {"one": "type 0", "other": "type 2"}),
            (cells.distance, {"one": "type 0", "other": "type 2"}),
            (cells.margins, {"terms": {"a": "type 0", "b": "type 1"}, "margin": 0.5}),
        ]
    )


def _read_gmt(draft: Draft) -> None:
    path = draft.folder / "sets.gmt"
    path.write_text(gmt(draft))
    draft.function = gene_sets.read_gmt
    draft.arguments = {"path": path}


def _gene_set_mask(draft: Draft) -> None:
    draft.function = gene_sets.gene_set_mask
    names = draft.world.encoder.genes
    draft.arguments = {"sets": {"one": list(names[:5]), "two": list(names[3:9])}, "genes": names, "min_genes": 3}


#: Calls of ontologies and gene sets, with their relative frequencies.
FILES: dict[Callable[[Draft], None], float] = {
    _read_ontology: 3,
    _use_ontology: 3,
    _read_gmt: 3,
    _gene_set_mask: 3,
}
