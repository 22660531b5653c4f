"""Bake and proof as the API sees them: the calls of the real ones, without Packer, Terraform and machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from gpunodes.aws import aws_errors
from gpunodes.bake import seal
from gpunodes.channel.channel_lock import ChannelLock
from gpunodes.channel.policy import Policy
from gpunodes.channel.promote import promote
from gpunodes.cleanup import leftovers
from gpunodes.errors import AwsError, GpunodesError
from gpunodes.operation import runs
from gpunodes.operation.runs import Run
from gpunodes.operation.steps import Step, run_steps
from gpunodes.plan import plan
from gpunodes.proof import verdict_tags
from gpunodes.prune.prune import Pruned
from gpunodes.prune.retire import retire
from gpunodes.recipe import ami
from gpunodes.recipe.recipe import Recipe
from gpunodes.refresh import situation
from gpunodes.refresh.refresh import Proof
from gpunodes.settings import Settings
from tests.gpunodes.fakes import RecordingProgress
from tests.gpunodes.lifecycle.api_in_process import Api


@dataclass
class Work:
    """What a refresh lets others do.

    Attributes:
        api: of the account.
        settings: of the channel, on some machine.
        policy: of the channel.
        recipe: of an image that is baked now.
        base: image that a bake begins with.
        has_passed: what a proof says.
        proof_lasts: and how long it takes to say it.
        completed: told of every image that is finished in every way.
    """

    api: Api
    settings: Settings
    policy: Policy
    recipe: Recipe
    base: str
    has_passed: bool = True
    proof_lasts: timedelta = timedelta()
    completed: Callable[[str], None] = lambda _ami_id: None
    progress: RecordingProgress = field(default_factory=RecordingProgress)

    def bake(self, lock: ChannelLock) -> str:
        run = self._run()
        bake = _Bake(self, run, lock, _Instance(self.api, run, self.base))
        with runs.going_on(run):
            steps = [
                Step("open a way in", bake.instance.launch, bake.clean_up),
                Step("bake", bake.make),
                Step("seal", bake.seal),
            ]
            run_steps(steps, self.progress)
        return bake.ami_id

    def prove(self, ami_id: str) -> Proof:
        run, clients = self._run(), self.api.clients
        image, launched = ami.describe(clients, ami_id), _Instance(self.api, run, ami_id)
        with runs.going_on(run):
            run_steps(
                [
                    Step("launch", launched.launch, launched.terminate),
                    Step("wait", lambda: self.api.wait(self.proof_lasts.total_seconds())),
                ],
                self.progress,
            )
        if ami.state_now(clients, ami_id) != ami.AVAILABLE:
            raise AwsError(f"Image {ami_id} was taken away while it was being proven; bake another.")
        result, reason = ("passed", "") if self.has_passed else ("failed", "it was so")
        proof = run.write_json("proof.json", {})
        verdict_tags.tag_image(
            clients, image, result=result, reason=reason, run_id=run.run_id, proof=proof, now=self.api.now
        )
        return Proof(self.has_passed, reason)

    def promote(self, ami_id: str, lock: ChannelLock) -> str:
        target, clock = self.api.clients.target, self.api.clock
        return promote(
            target, self.settings, self.policy, self.progress, ami_id=ami_id, held_lock=lock, clock=clock
        ).ami_id

    def retire(self) -> Pruned:
        return retire(self.api.clients, self.settings.channel, self.api.clock)

    def _run(self) -> Run:
        return runs.start(self.settings, self.api.clients.target.destination, self.api.now)


@dataclass
class _Instance:
    """An instance of a run; where its id did not get here, it is `reap` that finds it."""

    api: Api
    run: Run
    ami_id: str
    instance_id: str = ""

    def launch(self) -> None:
        tags = [{"Key": key, "Value": value} for key, value in runs.temporary_tags(self.run).items()]
        kinds = [{"ResourceType": "instance", "Tags": tags}]
        with aws_errors("launching"):
            answer = self.api.clients.ec2.run_instances(
                ImageId=self.ami_id, MinCount=1, MaxCount=1, TagSpecifications=kinds
            )
        self.instance_id = answer["Instances"][0]["InstanceId"]

    def terminate(self) -> None:
        if self.instance_id:
            with aws_errors("terminating"):
                self.api.clients.ec2.terminate_instances(InstanceIds=[self.instance_id])


@dataclass
class _Bake:
    """A bake while it runs: an instance, an image of it, that sealed and tagged last."""

    work: Work
    run: Run
    lock: ChannelLock
    instance: _Instance
    ami_id: str = ""
    is_complete: bool = False

    def make(self) -> None:
        """As Packer does it: tags come when the image is there."""
        ec2, name = self.work.api.clients.ec2, f"gpunodes-{self.run.run_id}-debian-12"
        with aws_errors("making an image"):
            self.ami_id = ec2.create_image(InstanceId=self.instance.instance_id, Name=name)["ImageId"]
        image = ami.describe(self.work.api.clients, self.ami_id)
        seal.tag(self.work.api.clients, self.ami_id, ami.snapshots_of(image), runs.temporary_tags(self.run))

    def seal(self) -> None:
        clients, recipe = self.work.api.clients, self.work.recipe
        if not self.lock.is_held():
            raise GpunodesError("This bake took so long that another one has its channel now; bake again.")
        sealed = seal.seal(clients, self.ami_id)
        tags = {
            "gpunodes:channel": self.work.settings.channel,
            plan.TAG_RECIPE: recipe.summary,
            situation.TAG_FINGERPRINT: recipe.fingerprint,
            runs.TAG_STATE: ami.STATE_CANDIDATE,
        }
        seal.tag(clients, self.ami_id, sealed.snapshot_ids, runs.tags(self.run, **tags))
        self.is_complete = True

    def clean_up(self) -> None:
        clients = self.work.api.clients
        try:
            self.instance.terminate()
        finally:
            if not self.is_complete:
                leftovers.remove_images(clients, self.run.run_id)
