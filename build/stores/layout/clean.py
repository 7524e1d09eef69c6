def clean_layout(folder, dry):
    return []
