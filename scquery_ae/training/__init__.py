"""Pretraining and fine-tuning of encoders on rows of cells."""

from scquery_ae.training.components import principal_components, with_components
from scquery_ae.training.crossfit import crossfit, make_folds
from scquery_ae.training.finetune import FinetuneResult, finetune_encoder
from scquery_ae.training.finetune_settings import LABEL_ISSUES, FinetuneSettings
from scquery_ae.training.gene_panel_dropout import GenePanelDropout
from scquery_ae.training.label_issues import LabelIssues, find_label_issues, is_label_issue, labels_to_drop
from scquery_ae.training.out_of_fold import OutOfFold, out_of_fold
from scquery_ae.training.pretrain import pretrain_encoder
from scquery_ae.training.split import stratified_split
from scquery_ae.training.steps import MOST_PRETRAINING, default_batch_size

__all__ = [
    "LABEL_ISSUES",
    "MOST_PRETRAINING",
    "FinetuneResult",
    "FinetuneSettings",
    "GenePanelDropout",
    "LabelIssues",
    "OutOfFold",
    "crossfit",
    "default_batch_size",
    "find_label_issues",
    "finetune_encoder",
    "is_label_issue",
    "labels_to_drop",
    "make_folds",
    "out_of_fold",
    "pretrain_encoder",
    "principal_components",
    "stratified_split",
    "with_components",
]
