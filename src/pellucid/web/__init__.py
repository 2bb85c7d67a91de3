"""The live page: a visitor's browser sees its own connection.

`view` says what is shown, `page`, `text` and `document` draw it; `app` serves it. Nothing here opens a connection.
"""
