"""DATAS/DATA by lxml, element by element."""

import sys

from lxml import etree

import feed


def rows(file):
    for _, element in etree.iterparse(file, tag="DATA"):
        yield {child.tag: child.text for child in element}
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]


feed.send(rows(sys.argv[1]))
