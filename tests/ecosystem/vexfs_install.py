"""pytest plugin: from here on the local clients of plain `import chromadb` are ours."""

import vexfs_chroma

vexfs_chroma.install()
