"""`python -m fcn4dist` is the `fcn4dist` command."""

from fcn4dist.cli.main import main

main()
