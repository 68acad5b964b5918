"""`ON=ec2`: the same commands on a fleet of spot instances next to the bucket.

From a person's machine: `commands` and `errands` (what each command does), `site` (what it works
with), `aws` (clients, and what AWS's errors mean), `preflight` and `permissions` (what is missing),
`bundle` (the code as one archive), `stack` and `fleet` (CloudFormation, Auto Scaling), `remote` and
`invocation` (scripts over SSM), `runlog` (the log of all instances), `forward` (luigid's page),
`survey`, `view`, `screen` and `costs` (where a run stands), `record`, `remains` and `traces` (what
stays, and what should not).

On an instance: `scripts` set it up, `prove` shows that it can work, and the daemon `member` takes
part in the run, with `pulse`, `lease`, `duty`, `share`, `work`, `journal`, `vitals`, `metadata`,
`ending`, `savings` and `notify`. In between lies `board`: a few JSON objects in the bucket.
"""
