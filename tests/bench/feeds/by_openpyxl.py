"""A workbook by openpyxl, in the mode that does not hold it."""

import sys

import openpyxl

import feed


def rows(file):
    sheet = openpyxl.load_workbook(file, read_only=True).worksheets[0]
    cells = sheet.iter_rows(values_only=True)
    heading = next(cells)
    return (dict(zip(heading, row)) for row in cells)


feed.send(rows(sys.argv[1]))
