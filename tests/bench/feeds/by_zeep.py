"""Pages of a SOAP service by zeep: WSDL, SIZE. The document in the answer's text by lxml."""

import sys

import feed
import zeep
from lxml import etree


def rows(wsdl, size):
    client, page = zeep.Client(wsdl), 1
    while True:
        document = etree.fromstring(client.service.getData(page, size).encode("utf-8"))
        for element in document:
            yield {child.tag: child.text for child in element}
        if len(document) < size:
            return
        page += 1


feed.send(rows(sys.argv[1], int(sys.argv[2])))
