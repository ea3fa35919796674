"""The metrics from a command line.

  python -m rsrc_jax.accounting published [--version v0|v1] [--check] [--audit]
  python -m rsrc_jax.accounting energy --probe | --crosscheck zeus,codecarbon
  python -m rsrc_jax.accounting card RUN_DIR
  python -m rsrc_jax.accounting compare A B
  python -m rsrc_jax.accounting map SUMMARY... --output FOLDER

Each has --help.
"""

import importlib
import sys

COMMANDS = {
  "published": "rsrc_jax.metrics.published",
  "energy": "rsrc_jax.accounting.crosscheck",
  "card": "rsrc_jax.accounting.card",
  "compare": "rsrc_jax.accounting.compare",
  "map": "rsrc_jax.report.survival_map",
}


def main(arguments: list[str]) -> int:
  """Hands the arguments on to the module of the command."""
  if not arguments or arguments[0] not in COMMANDS:
    asked = arguments[0] if arguments else ""
    wrong = asked not in ("", "-h", "--help")
    if wrong:
      print(f"error: there is no command {asked!r}.", file=sys.stderr)
    print(__doc__.strip(), file=sys.stderr if wrong else sys.stdout)
    return 2 if wrong or not asked else 0
  module = importlib.import_module(COMMANDS[arguments[0]])
  return module.main(arguments[1:])


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
