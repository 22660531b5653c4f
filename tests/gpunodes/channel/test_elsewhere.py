"""Promotions and rollbacks that reach several regions, against the offline cloud's API in this process."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.channel import promote as promote_module
from gpunodes.channel import rollback as rollback_module
from gpunodes.channel.elsewhere import LABEL_PREVIOUS
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.channel.policy import Policy
from gpunodes.channel.promote import Promotion, promote
from gpunodes.channel.reach import Share
from gpunodes.channel.rollback import Rollback, rollback
from gpunodes.errors import AwsError, GpunodesError, PreflightError, UsageError
from gpunodes.settings import Settings
from localaws.image_shares import UNKNOWN_ACCOUNT
from tests.gpunodes.fakes import RecordingProgress
from tests.gpunodes.lifecycle.api_in_process import Api, Trouble

WEST, EUROPE = "us-west-2", "eu-west-1"
ACCOUNT = Share("UserId", "111122223333")
ORGANIZATION = Share("OrganizationArn", "arn:aws:organizations::111122223333:organization/o-abcdefghij")
UNIT = Share("OrganizationalUnitArn", "arn:aws:organizations::111122223333:ou/o-abcdefghij/ou-abcd-12345678")


class World:
    """An account with a channel that reaches two regions beside its home."""

    def __init__(self, folder: Path) -> None:
        self.api = Api()
        self.home: Clients = self.api.clients
        self.settings = Settings(work_folder=folder)
        self.progress = RecordingProgress()

    def there(self, region: str) -> Clients:
        return self.home.in_region(region)

    def make_image(self, **more: str) -> str:
        made = str(self.home.ec2.register_image(Name=str(uuid.uuid4()), RootDeviceName="/dev/xvda")["ImageId"])
        tags = {
            "state": "proven",
            "channel": "stable",
            "proof-sha256": "0",
            "fingerprint": "f",
            "recipe": "a=b",
            **more,
        }
        self.tag(self.home, made, **tags)
        return made

    def tag(self, clients: Clients, ami_id: str, **tags: str) -> None:
        pairs = [{"Key": f"gpunodes:{key}", "Value": value} for key, value in tags.items()]
        clients.ec2.create_tags(Resources=[ami_id], Tags=pairs)

    def promote(self, ami_id: str, regions: tuple[str, ...] = (WEST, EUROPE), *shares: Share) -> Promotion:
        policy = Policy(regions=regions, share_with=shares)
        return promote(
            self.home.target,
            self.settings,
            policy,
            self.progress,
            ami_id=ami_id,
            wait=self.api.wait,
            clock=self.api.clock,
        )

    def roll_back(self, regions: tuple[str, ...] = (WEST, EUROPE), *shares: Share) -> Rollback:
        policy = Policy(regions=regions, share_with=shares)
        return rollback(
            self.home.target, self.settings, self.progress, policy=policy, wait=self.api.wait, clock=self.api.clock
        )

    def named(self) -> list[str]:
        """What the channel names at home, in the west and in Europe; empty where it names nothing."""
        pointers = [ChannelParameter(self.there(region), "stable").read() for region in ("us-east-1", WEST, EUROPE)]
        return [pointer.ami_id if pointer else "" for pointer in pointers]

    def images(self, region: str) -> list[dict[str, Any]]:
        return list(self.there(region).ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"])

    def copied(self, image: dict[str, Any]) -> str:
        """The image at home that an image is a copy of."""
        return tags_of(image)["copied-from"].rpartition("/")[2]

    def image(self, region: str, ami_id: str) -> dict[str, Any]:
        [found] = [image for image in self.images(region) if image["ImageId"] == ami_id]
        return found

    def shares(self, region: str, ami_id: str) -> list[dict[str, str]]:
        ec2 = self.there(region).ec2
        return list(ec2.describe_image_attribute(ImageId=ami_id, Attribute="launchPermission")["LaunchPermissions"])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    made = World(tmp_path)
    for module in (promote_module, rollback_module):
        monkeypatch.setattr(module, "Clients", lambda _target: made.home)
    return made


def tags_of(image: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"].removeprefix("gpunodes:"): tag["Value"] for tag in image["Tags"]}


def test_each_region_names_a_copy_that_is_like_the_image(world: World) -> None:
    image = world.make_image(keep="by hand")

    done = world.promote(image)

    assert world.named() == [image, done.regions[WEST], done.regions[EUROPE]]
    copy = world.image(WEST, done.regions[WEST])
    assert (copy["State"], copy["ImdsSupport"], copy["DeregistrationProtection"]) == (
        "available", "v2.0", "enabled-without-cooldown",
    )  # fmt: skip
    expected = {"state": "proven", "channel": "stable", "proof-sha256": "0", "fingerprint": "f", "recipe": "a=b"}
    assert tags_of(copy) == {**expected, "copied-from": f"us-east-1/{image}"}
    snapshot = copy["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    [tagged] = world.there(WEST).ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    assert tags_of(tagged)["copied-from"] == f"us-east-1/{image}"


def test_second_promotion_of_the_same_changes_nothing(world: World) -> None:
    image = world.make_image()
    first = world.promote(image)

    again = world.promote(image)

    assert (first.was_promoted, again.was_promoted) == (True, False)
    assert again.regions == first.regions
    assert [len(world.images(region)) for region in (WEST, EUROPE)] == [1, 1]


def test_region_that_is_new_in_the_policy_gets_what_home_names(world: World) -> None:
    image = world.make_image()
    world.promote(image, (WEST,))

    done = world.promote(image)

    assert (done.was_promoted, done.version) == (True, 1)
    assert world.named() == [image, done.regions[WEST], done.regions[EUROPE]]


def test_version_before_is_labelled_in_each_region(world: World) -> None:
    world.promote(world.make_image())
    world.promote(world.make_image())

    history = ChannelParameter(world.there(WEST), "stable").history()
    assert [pointer.labels for pointer in history] == [(), (LABEL_PREVIOUS,)]


def test_promotion_that_is_killed_anywhere_is_gone_on_with_and_copies_nothing_twice(world: World) -> None:
    calls = 5
    while True:
        image = world.make_image()
        with world.api.process(Trouble(crash_in=calls)) as process:
            world.promote(image, (WEST, EUROPE), ACCOUNT)
        named = world.named()
        for region, ami_id in zip((WEST, EUROPE), named[1:], strict=True):
            assert not ami_id or world.image(region, ami_id)["State"] == "available"
        done = world.promote(image, (WEST, EUROPE), ACCOUNT)
        assert world.named() == [image, done.regions[WEST], done.regions[EUROPE]]
        for region in (WEST, EUROPE):
            copies = [each for each in world.images(region) if tags_of(each)["copied-from"].endswith(image)]
            assert [each["ImageId"] for each in copies] == [done.regions[region]]
            assert world.shares(region, done.regions[region]) == [ACCOUNT.permission]
        if process.ended_by is None:
            return
        calls += 13


def test_call_that_fails_anywhere_leaves_every_region_with_what_it_had(world: World) -> None:
    world.promote(world.make_image())
    before, fail_in = world.named(), 0
    while True:
        image = world.make_image()
        with world.api.process(Trouble(fail_in=fail_in)) as process:
            world.promote(image)
        world.api.settle()
        home, *others = world.named()
        if process.ended_by is None:
            assert home == image
            return
        assert [home, *others] == before or home == image
        before = world.named()
        if before[0] == image:  # its label, or the record, came after the promotion
            assert before[1:] == [world.promote(image).regions[region] for region in (WEST, EUROPE)]
        fail_in += 11


def test_new_region_is_left_without_a_parameter_where_home_could_not_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ChannelParameter.write

    def refuse_at_home(parameter: ChannelParameter, ami_id: str) -> Any:
        if parameter.clients.target.region == "us-east-1":
            raise AwsError("SSM did not take it.")
        return write(parameter, ami_id)

    monkeypatch.setattr(ChannelParameter, "write", refuse_at_home)
    with pytest.raises(AwsError, match="SSM did not take it"):
        world.promote(world.make_image())

    assert world.named() == ["", "", ""]


def test_all_are_shared_and_whoever_was_added_by_hand_stays(world: World) -> None:
    image = world.make_image()
    by_hand = {"UserId": "444455556666"}
    world.home.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [by_hand]})

    done = world.promote(image, (WEST,), ACCOUNT, ORGANIZATION, UNIT)

    expected = [ACCOUNT.permission, ORGANIZATION.permission, UNIT.permission]
    assert world.shares(WEST, done.regions[WEST]) == expected
    assert world.shares("us-east-1", image) == [by_hand, *expected]
    assert done.shared_with == [ACCOUNT.value, ORGANIZATION.value, UNIT.value]


def test_share_with_an_unknown_account_promotes_nothing(world: World) -> None:
    before = world.make_image()
    world.promote(before)
    names = world.named()

    with pytest.raises(UsageError, match=f'does not know .*"{UNKNOWN_ACCOUNT}".*nothing was promoted'):
        world.promote(world.make_image(), (WEST,), Share("UserId", UNKNOWN_ACCOUNT))

    assert world.named() == names


@pytest.mark.parametrize(
    ("regions", "error", "sentence"),
    [
        (("us-east-1",), UsageError, "names us-east-1, which is the home region; take it out"),
        (("us-west-9",), UsageError, "names us-west-9, which AWS does not have; did you mean us-west-2"),
        (("ap-east-1",), PreflightError, "Region ap-east-1 is switched off in this account; switch it on"),
    ],
)
def test_region_that_cannot_be_one_is_said_before_anything_is_made(
    world: World, regions: tuple[str, ...], error: type[GpunodesError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        world.promote(world.make_image(), (WEST, *regions))

    assert world.named() == ["", "", ""]
    assert world.images(WEST) == []


def test_own_account_needs_no_share(world: World) -> None:
    with pytest.raises(UsageError, match="names your own account 123456789012"):
        world.promote(world.make_image(), (), Share("UserId", "123456789012"))


def own_key(world: World, region: str) -> str:
    """A key of one's own, which is the default of EBS there."""
    key = str(world.there(region).client("kms").create_key()["KeyMetadata"]["Arn"])
    world.there(region).ec2.modify_ebs_default_kms_key_id(KmsKeyId=key)
    return key


def encrypted_image(world: World) -> str:
    made = world.make_image()
    copy = world.home.ec2.copy_image(
        Name="encrypted", SourceImageId=made, SourceRegion="us-east-1", Encrypted=True, CopyImageTags=True
    )
    return str(copy["ImageId"])


def test_copies_of_an_encrypted_image_are_encrypted_with_the_key_of_their_region(world: World) -> None:
    own_key(world, "us-east-1")
    key = own_key(world, WEST)

    done = world.promote(encrypted_image(world), (WEST,), ACCOUNT)

    snapshot = world.image(WEST, done.regions[WEST])["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    [found] = world.there(WEST).ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    assert (found["Encrypted"], found["KmsKeyId"]) == (True, key)


@pytest.mark.parametrize("own_in", [(), ("us-east-1",)], ids=["at home", "in the region"])
def test_what_is_encrypted_with_the_key_of_aws_is_not_shared(world: World, own_in: tuple[str, ...]) -> None:
    for region in own_in:
        own_key(world, region)
    image = encrypted_image(world)

    with pytest.raises(PreflightError, match="encrypted with the default key alias/aws/ebs"):
        world.promote(image, (WEST,), ACCOUNT)

    assert world.named() == ["", "", ""]
    assert world.images(WEST) == []


def test_copy_that_fails_says_why_and_promotes_nothing_and_is_made_anew(world: World) -> None:
    image = encrypted_image(world)
    key = own_key(world, WEST)
    kms = world.there(WEST).client("kms")
    kms.disable_key(KeyId=key.rpartition("/")[2])

    with pytest.raises(AwsError, match=r"us-west-2 is failed \(The key .* is not accessible\)"):
        world.promote(image)
    failed, named = [each["ImageId"] for each in world.images(WEST)], world.named()
    with pytest.raises(AwsError, match="is failed"):
        world.promote(image)
    kms.enable_key(KeyId=key.rpartition("/")[2])
    done = world.promote(image)

    assert (named, len(failed)) == (["", "", ""], 1)
    assert [each["ImageId"] for each in world.images(WEST)] == [done.regions[WEST]]


def test_copy_that_was_changed_by_hand_is_mended_or_refused(world: World) -> None:
    first, second = world.make_image(), world.make_image()
    copy = world.promote(first, (WEST,)).regions[WEST]
    world.promote(second, (WEST,))
    world.tag(world.there(WEST), copy, state="failed")

    world.promote(first, (WEST,))

    assert tags_of(world.image(WEST, copy))["state"] == "proven"


def test_rollback_names_the_copies_of_the_image_before_and_enables_a_disabled_one(world: World) -> None:
    first, second = world.make_image(), world.make_image()
    before = world.promote(first, (WEST, EUROPE), ACCOUNT)
    world.promote(second, (WEST, EUROPE), ACCOUNT)
    for clients, ami_id in ((world.there(WEST), before.regions[WEST]), (world.home, first)):
        clients.ec2.disable_image(ImageId=ami_id)

    done = world.roll_back((WEST, EUROPE), ACCOUNT)

    assert done.regions == before.regions
    assert world.named() == [first, *before.regions.values()]
    assert world.image(WEST, before.regions[WEST])["State"] == "available"
    assert world.shares(WEST, before.regions[WEST]) == [ACCOUNT.permission]
    assert world.shares("us-east-1", first) == [ACCOUNT.permission]


def test_rollback_makes_the_copy_that_a_new_region_lacks(world: World) -> None:
    first, second = world.make_image(), world.make_image()
    world.promote(first, (WEST,))
    world.promote(second)

    done = world.roll_back()

    assert world.named() == [first, done.regions[WEST], done.regions[EUROPE]]
    assert tags_of(world.image(EUROPE, done.regions[EUROPE]))["copied-from"] == f"us-east-1/{first}"


def test_rollback_that_is_killed_anywhere_is_gone_on_with(world: World) -> None:
    first, second = world.make_image(), world.make_image()
    expected = [first, *world.promote(first).regions.values()]
    for crash_in in range(9, 60, 17):
        world.promote(second)
        with world.api.process(Trouble(crash_in=crash_in)):
            world.roll_back()
        if world.named()[0] != first:
            world.roll_back()

        assert world.named() == expected
