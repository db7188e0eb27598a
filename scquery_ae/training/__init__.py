"""Training on rows of cells: arrays and histories, no AnnData is written."""

from scquery_ae.training.components import principal_components
from scquery_ae.training.crossfit import crossfit, make_folds
from scquery_ae.training.finetune import FinetuneResult, finetune_encoder
from scquery_ae.training.gene_panel_dropout import GenePanelDropout
from scquery_ae.training.label_issues import LabelIssues, find_label_issues
from scquery_ae.training.objective import Objective
from scquery_ae.training.pretrain import pretrain_encoder
from scquery_ae.training.split import stratified_split
from scquery_ae.training.steps import MOST_FINETUNING, MOST_PRETRAINING, default_batch_size

__all__ = [
    "MOST_FINETUNING",
    "MOST_PRETRAINING",
    "FinetuneResult",
    "GenePanelDropout",
    "LabelIssues",
    "Objective",
    "crossfit",
    "default_batch_size",
    "find_label_issues",
    "finetune_encoder",
    "make_folds",
    "pretrain_encoder",
    "principal_components",
    "stratified_split",
]
