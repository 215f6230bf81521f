"""Files as people have them: formats, tables, folders, and outputs that replace nothing by mistake."""
