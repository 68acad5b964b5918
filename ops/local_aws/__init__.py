"""An AWS on this machine: for the tests of `ON=ec2` and for `make demo-ec2`. Never speaks to AWS.

One server holds moto, which knows most of AWS, and corrects and completes it where the project
relies on more: instances are machines with addresses, metadata, disks and processes of their own;
commands sent through SSM truly run there; policies are enforced; stacks take time and fail; spot
instances are taken back. What differs from AWS is said in the module that makes the difference.

===================  ============================================================================
`handle`             starting, using and stopping it, as tests and the demo do: `LocalAws`
`demo`               `make demo-ec2`
`server`             the way of a request, and what runs beside the requests
`wire`               the protocols: what is asked for, how answers and refusals are written
`users`              whose keys there are
`identity`, `iam`    who asks, and what that one may do
`policies`           what IAM's policies allow
`actions`            which rights a request needs, on which resources
`buckets`            whose a bucket is, and in which region
`backends`           moto's inside, and what it does otherwise than AWS
`stacks`             CloudFormation: the life of a stack
`stack_work`         its single steps
`templates`          what it makes of a template and its parameters
`resources`          what it does with each kind of resource
`groups`             Auto Scaling groups and their activities
`prices`             prices of spot instances
`hypervisor`         EC2's instances and their machines, kept together
`instances`          one machine: its folders, processes, disk, and its end
`network`            an address for each: network namespaces, or 127.x.y.z
`imds`               the metadata service
`agents`             which instances SSM knows, and which of them answer
`ssm`, `commands`    sending commands, and what SSM shows of them
`agent`              one script that runs on an instance
`sessions`           ports brought to the laptop
`plugin`             the stand-in for session-manager-plugin
`troubles`           everything that can be made to go wrong
===================  ============================================================================

``shims/dnf`` is dnf on an instance.
"""

from ops.local_aws.handle import LocalAws

__all__ = ["LocalAws"]
