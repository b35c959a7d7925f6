"""Finds files of src/ that import each other, directly or through others, and prints each circle.

    python3 scripts/import_circles.py [FOLDER]

Names that a module re-exports count as imports of the file that defines them. Tests inside a file do not count. Exits 1
if there is a circle.
"""

import re
import sys
from pathlib import Path

COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
STRINGS = re.compile(r'r#".*?"#|"(?:\\.|[^"\\])*"', re.S)
TESTS = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([a-z]+\))?\s+)?mod \w+ \{")
USE = re.compile(r"(?:^|[\s;{}])(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"\b(crate(?:::\w+)+|(?:super::)+\w+(?:::\w+)*|self::\w+(?:::\w+)*)")


def module_of(path, root):
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] in ("mod", "lib"):
        parts.pop()
    return tuple(parts)


def source_of(path):
    """The code of a file without comments, strings and unit tests."""
    text = STRINGS.sub('""', COMMENTS.sub("", path.read_text()))
    while found := TESTS.search(text):
        depth, end = 1, found.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = text[: found.start()] + text[end:]
    return text


def expand(tree):
    """Turns `a::{b, c::{d as e}}` into (path, name) pairs."""
    tree = tree.strip()
    if "{" not in tree:
        path, _, name = tree.partition(" as ")
        parts = path.strip().split("::")
        if parts[-1] == "self":
            parts.pop()
        yield parts, name.strip() or parts[-1]
        return
    head, rest = tree.split("{", 1)
    depth, item, items = 0, "", []
    for character in rest.rsplit("}", 1)[0]:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            items.append(item)
            item = ""
        else:
            item += character
    for item in [*items, item]:
        if item.strip():
            yield from expand(head.strip() + item.strip())


class Crate:
    def __init__(self, root):
        self.files = {module_of(path, root): path for path in root.rglob("*.rs") if "bin" not in path.parts}
        self.text = {module: source_of(path) for module, path in self.files.items()}
        self.exports, self.paths = {}, {}
        for module, text in self.text.items():
            exports, paths = {}, []
            for _, tree in USE.findall(text):
                for parts, name in expand(" ".join(tree.split())):
                    exports[name] = parts
                    paths.append(parts)
            paths += [found.split("::") for found in PATH.findall(USE.sub(" ", text))]
            self.exports[module], self.paths[module] = exports, paths

    def file_of(self, module, parts, seen=()):
        """The module that defines what a path in `module` names; None if it is not in this crate."""
        parts = list(parts)
        if parts[0] == "crate":
            at, rest = (), parts[1:]
        elif parts[0] in ("self", "super"):
            at, rest = module, parts
            while rest and rest[0] in ("self", "super"):
                at = at[:-1] if rest[0] == "super" else at
                rest = rest[1:]
        elif module + (parts[0],) in self.files:
            at, rest = module, parts
        else:
            return None
        while rest and at + (rest[0],) in self.files:
            at, rest = at + (rest[0],), rest[1:]
        if rest and (at, rest[0]) not in seen and rest[0] in self.exports.get(at, {}):
            through = self.file_of(at, self.exports[at][rest[0]], (*seen, (at, rest[0])))
            return through if through is not None else at
        return at

    def imports(self):
        graph = {}
        for module, paths in self.paths.items():
            found = {self.file_of(module, parts) for parts in paths}
            graph[module] = {other for other in found if other is not None and other != module}
        return graph


def circles(graph):
    """The strongly connected components of more than one file (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(stack[at:])
            del stack[at:]

    sys.setrecursionlimit(10_000)
    for node in graph:
        if node not in index:
            visit(node)
    return found


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "src")
    crate = Crate(root)
    graph = crate.imports()
    found = circles(graph)
    for circle in found:
        print("circle:", ", ".join(sorted(str(crate.files[module]) for module in circle)))
        for module in circle:
            inside = sorted(str(crate.files[other]) for other in graph[module] if other in circle)
            print(f"    {crate.files[module]} imports {', '.join(inside)}")
    edges = sum(len(others) for others in graph.values())
    print(f"{len(crate.files)} files, {edges} imports, {len(found)} circles")
    sys.exit(bool(found))


main()
