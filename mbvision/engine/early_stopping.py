"""Training that ends when validations do not improve any more."""

import logging
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from mbvision.engine.module import VisionModule

logger = logging.getLogger(__name__)


class EarlyStopping(Callback):
    """Ends training after ``patience`` validations in a row without a better `VisionModule.score` than before.

    Lightning's callback looks for the score at the end of an epoch, where a run that is resumed after its validation
    has none, and takes the patience of the checkpoint.
    """

    def __init__(self, *, patience: int) -> None:
        self.patience = max(patience, 1)
        self.best = -float("inf")
        self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, and how many validations came after it."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up both; the patience is that of this run."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that had ended so, or was killed just before, ends here unless it has more patience now."""
        self._stop_if_due(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare; before the checkpoint of this validation is written, which holds the count."""
        assert isinstance(pl_module, VisionModule)
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if pl_module.score > self.best:
            self.best, self.waited = pl_module.score, 0
        else:
            self.waited += 1
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: L.Trainer) -> None:
        if self.waited >= self.patience:
            trainer.should_stop = True
            if trainer.is_global_zero:
                logger.info(
                    "training ends: %d validations without a better score than %.4f (early_stopping=%d)",
                    self.waited,
                    self.best,
                    self.patience,
                )
