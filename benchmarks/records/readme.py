"""The README.md of an output folder, which says what each file is."""

README = """# Results of timm-ablate

| file or folder | content |
|:--|:--|
| `records.jsonl` | one line per finished run, with its accuracies, learning curve and versions. Each line has a hash |
| `failed_runs.jsonl` | one line per failed run, with the reason |
| `removed_*.jsonl` | lines that `ablate redo` and `ablate remove` moved out of these two files |
| `*.torn` | the incomplete last line of a file whose writer was killed |
| `checkpoints/` | the state of unfinished runs, from which the same command resumes |
| `live/` | what the last command trains, and the finished epochs of its unfinished runs, for `ablate watch` |
| `weights/` | the final weights of each run, as BENCHMARK_ID/SPEC_SEED_KEY.safetensors |
| `predictions/` | the predicted class and the label of each test image, under the same names |
| `initial/` | copies of the weights files that runs start from, as NAME_HASH.safetensors |
| `plans.jsonl` | the rows of plans that depend on plugins, so that their tables need no plugin |
| `seed_requests.jsonl` | the seeds that plans were run with, so that tables show looks at earlier results |
| `preregistrations/` | what `ablate preregister` declared before the first run, as HASH.json |
| `labels.json` | the names that `--label` gave rows |
| `*.md`, `*.csv`, `*.png` | the tables and learning curves of `ablate run` |
| `*_report.*`, `*_errors*` | the outputs of `ablate report` and `ablate errors` |
| `ASSIGNMENT_SCALE_BENCHMARK_ID/` | the pages of `ablate reproduce` |
| `near_duplicates/` | test images that resemble training images, from `ablate errors --near-duplicates` |
| `trackers/` | the output of `ablate export` and `--track` |
| `NAME-HASH/`, `search.journal` | the outputs and the trials of `search` |

`ablate runs --out FOLDER` lists the runs, and `ablate table --out FOLDER` prints their table. `ablate report`
writes the report again, and `ablate run` the tables; `ablate table --format csv > FILE` needs no benchmark file.
"""
