"""A table by pymysql, streamed by its server-side cursor."""

import sys

import pymysql
import pymysql.cursors

import feed

connection = pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="reader", password="s3cret",
                             database="front", charset="utf8mb4")
with connection.cursor(pymysql.cursors.SSDictCursor) as cursor:
    cursor.execute("SELECT * FROM punish ORDER BY at, id")
    feed.send(cursor)
