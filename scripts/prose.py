"""Turns HTML pages into plain text, paragraphs separated by an empty line: python prose.py PAGE... > TEXT"""

import sys
from html.parser import HTMLParser

BLOCKS = {"p", "blockquote", "li", "ol", "ul", "div", "br", "center", "table", "tr", "h1", "h2", "h3", "body"}
HIDDEN = {"head", "script", "style"}


class Paragraphs(HTMLParser):
    def __init__(self):
        super().__init__()
        self.done, self.words, self.hidden = [], [], 0

    def end_paragraph(self):
        text = " ".join("".join(self.words).split())
        self.words = []
        if text:
            self.done.append(text)

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in HIDDEN
        if tag in BLOCKS:
            self.end_paragraph()

    def handle_endtag(self, tag):
        self.hidden -= tag in HIDDEN
        if tag in BLOCKS:
            self.end_paragraph()

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)


for page in sys.argv[1:]:
    with open(page, encoding="utf-8") as file:
        parser = Paragraphs()
        parser.feed(file.read())
        parser.close()
        parser.end_paragraph()
    sys.stdout.buffer.write("".join(paragraph + "\n\n" for paragraph in parser.done).encode())
