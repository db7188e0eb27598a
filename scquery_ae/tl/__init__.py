"""Tools: functions that compute on an AnnData and write their results to its slots."""

from scquery_ae.tl.audit import audit
from scquery_ae.tl.build_reference import build_reference
from scquery_ae.tl.coarsen import coarsen
from scquery_ae.tl.embed import embed
from scquery_ae.tl.explain import explain
from scquery_ae.tl.finetune import finetune
from scquery_ae.tl.pretrain import pretrain
from scquery_ae.tl.query import query

__all__ = ["audit", "build_reference", "coarsen", "embed", "explain", "finetune", "pretrain", "query"]
