"""`python -m bench` measures tasks; the other parts are started by their own names."""

from bench.tasks import main

if __name__ == "__main__":
    main()
