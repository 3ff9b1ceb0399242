"""A DBF by dbfread, record by record."""

import sys

import dbfread

import feed

feed.send(dbfread.DBF(sys.argv[1], encoding="gb18030"))
