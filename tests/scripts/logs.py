import logging
import sys

logging.basicConfig(
    level=logging.DEBUG, format="%(levelname)s %(name)s %(filename)s:%(lineno)d %(funcName)s %(message)s",
    handlers=[logging.StreamHandler(), logging.FileHandler("run.log")],
)
log = logging.getLogger(__name__)


def main():
    log.info("started with %d arguments", len(sys.argv) - 1)
    try:
        [][1]
    except IndexError:
        log.exception("it failed")
    logging.captureWarnings(True)
    import warnings

    warnings.warn("through the log")


main()
