"""Where `stipple` begins: Ctrl-C is one line from here on, also while the command is still being loaded."""

from flows.local import stopping


def main() -> None:
    stopping.listen()
    try:
        from flows import cli

        cli.main()
    except KeyboardInterrupt as stop:
        stopping.end(stop)


if __name__ == "__main__":
    main()
