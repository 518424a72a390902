"""The deployment that infra/ describes, evaluated by Microsoft's compiler and kept as files.

`make infra` compiles `infra/azuredeploy.json` and evaluates each file of `options/` into one of `snapshots/`.
"""
