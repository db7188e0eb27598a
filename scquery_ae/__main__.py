"""``python -m scquery_ae``."""

from scquery_ae.cli import main

if __name__ == "__main__":
    main(prog_name="scquery-ae")
