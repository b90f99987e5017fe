"""metrics.csv and curves.png of a run."""

from pathlib import Path

from mbvision.engine.run_log import RunLog


def test_the_table_goes_on_after_a_restart_and_a_torn_write_is_no_harm(tmp_path: Path) -> None:
    log = RunLog(folder=tmp_path)
    log.log_metrics({"epoch": 0, "train/loss": 2.0}, step=0)
    log.log_metrics({"epoch": 0, "val/AP": 0.25}, step=0)
    log.log_metrics({"epoch": 1, "train/loss": 1.0}, step=1)
    log.finalize("success")
    (tmp_path / ".metrics.csv.partial").write_text("step,epo")
    again = RunLog(folder=tmp_path, resume=True)
    again.log_metrics({"epoch": 1, "train/loss": 0.5}, step=2)
    again.finalize("success")
    rows = (tmp_path / "metrics.csv").read_text().split()
    assert rows == ["step,epoch,train/loss,val/AP", "0,0.0,2.0,0.25", "1,1.0,1.0,", "2,1.0,0.5,"]
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_a_new_run_takes_nothing_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,epoch,train/loss\n0,0.0,2.0\n")
    assert RunLog(folder=tmp_path).rows == {}
