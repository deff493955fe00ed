"""The command `lid`: a lazy group, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys
import traceback
from typing import NoReturn

import click

from lidcli import __version__
from lidcli.cli import streams
from lidcli.errors import LidError, StoreError, cause

__all__ = ["cli", "main"]

COMMANDS = {
    "fetch": ("lidcli.cli.fetch:fetch", "Download data, or copy them from a mirror."),
    "train": ("lidcli.cli.train:train", "Train one model on one data set, and evaluate it."),
    "evaluate": ("lidcli.cli.evaluate:evaluate", "Measure trained runs again."),
    "diagnose": ("lidcli.cli.diagnose:diagnose", "Measure whether a VAE of your own collapsed."),
    "sweep": ("lidcli.cli.sweep:sweep", "Run an experiment, or a grid of your own."),
    "report": ("lidcli.cli.report:report", "Tables and figures of what was run."),
    "list": ("lidcli.cli.inspect:list_", "List models, data, experiments or runs."),
    "show": ("lidcli.cli.show:show", "Show one run, or a resolved configuration."),
}

LOCKING = {"fetch", "train", "evaluate", "sweep"}
"""Commands that write what another process may be writing too."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Command names, in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from lidcli.names import nearest

            ctx.fail(f"No such command {args[0]!r}; {nearest(args[0], COMMANDS)}")
        name, command, rest = super().resolve_command(ctx, args)
        if name in LOCKING and not {"-h", "--help"} & set(rest):
            _require_locks(name)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lid")
def cli() -> None:
    """Does my posterior collapse, and would an identifiable decoder help?

    Trains, measures and tabulates latent-identifiable VAEs and the models they
    are compared with (Wang, Blei and Cunningham, NeurIPS 2021). KL, MI, ELBO and
    LL are in nats per datum, summed over dimensions; AU is a fraction.

    \b
      lid sweep demo                            a first comparison, in minutes
      lid train --model lidvae --data digits    one run
      lid report demo                           its tables and figures
    """


def main() -> None:
    """Run the command line and turn errors into one sentence and an exit code."""
    verbose = bool({"-v", "--verbose"} & set(sys.argv[1:]))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    streams.prepare()
    _reserve(set(sys.argv))
    try:
        cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("lid: interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        streams.finish()
        sys.exit(1)
    except LidError as error:
        _fail(str(error), error.exit_code, verbose)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{place}.", 1, verbose)
    except SystemExit as stop:
        _leave(stop, verbose)
    except Exception as error:
        _fail(_unforeseen(error), 1, verbose)


def _reserve(words: set[str]) -> None:
    """Keep stdout for the document that is asked for, whatever else is printed."""
    if "--json" in words and not {"-h", "--help"} & words:
        streams.reserve()


def _leave(stop: SystemExit, verbose: bool) -> NoReturn:
    """End as is asked for, but say where it is the user's code that asks."""
    streams.finish()
    if told := _yours(stop):
        _fail(told, 1, verbose)
    raise stop


def _unforeseen(error: Exception) -> str:
    """One sentence on an error that no part of the program expected."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or "memory" in text or "storage size" in text:
        sizes = "train.batch_size, inference.samples or runtime.batch"
        return f"Out of memory; smaller nets, or a smaller {sizes} (--set), need less."
    if told := _yours(error):
        return told
    from lidcli.config.kinds import allowed

    makers = " or of ".join(["lid", *allowed()])
    return f"This is a defect of {makers}; -v shows where. {cause(error)}"


def _yours(error: BaseException) -> str:
    """One sentence on an error that came out of the user's code; empty where it did not."""
    from lidcli.config.kinds import blamed

    place = blamed(error)
    return f"Code of yours failed ({place}): {cause(error)}." if place else ""


def _require_locks(command: str) -> None:
    try:
        import fcntl  # noqa: F401
    except ImportError:
        raise StoreError(
            f"lid {command} needs the file locks of Linux and macOS, which {platform.system()}"
            " lacks; run it in WSL, a container or on another machine. lid report, list and show"
            " work here."
        ) from None


def _fail(sentence: str, code: int, verbose: bool) -> NoReturn:
    """Say what went wrong, with the traceback if it was asked for, and leave."""
    if verbose:
        traceback.print_exc()
    streams.finish()
    click.echo(f"lid: {sentence}", err=True)
    if code == 128 + signal.SIGTERM:
        # A scheduler may send it twice, and Python gives back the default while it shuts down.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)
