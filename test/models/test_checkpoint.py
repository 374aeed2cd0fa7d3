# SPDX-License-Identifier: Apache-2.0
import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from support.data import NETWORK, save_tiny_model

from disam_ros.domains.domain import Domain
from disam_ros.errors import ModelError, OutputError
from disam_ros.files.writing import file_sha256
from disam_ros.models.import_checkpoint import import_checkpoint
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.networks import Decoder, Encoder, ResidualBlock

DOMAINS = [Domain("day"), Domain("night")]


def test_a_saved_model_gives_the_same_features_when_loaded(tmp_path):
    model = create_model(NETWORK, DOMAINS, seed=5)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    image = torch.rand(1, 3, 48, 64) * 2 - 1
    for stage in ("coarse", "fine"):
        for domain in ("day", "night"):
            before = getattr(model, stage)[domain](image)
            assert torch.equal(getattr(loaded, stage)[domain](image), before)
    assert loaded.identity == model.identity != ""
    assert loaded.domains == DOMAINS


def test_models_of_other_weights_have_another_identity(tmp_path):
    one = save_tiny_model(tmp_path / "one", seed=1)
    two = save_tiny_model(tmp_path / "two", seed=2)
    assert one.identity != two.identity


def test_half_precision_weights_take_half_the_space_and_give_nearly_the_same(tmp_path):
    model = create_model(NETWORK, DOMAINS, seed=5)
    save_model(model, tmp_path / "whole")
    save_model(model, tmp_path / "half", half=True)
    sizes = [(tmp_path / n / "fine.safetensors").stat().st_size for n in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    image = torch.rand(1, 3, 48, 64) * 2 - 1
    z = load_model(tmp_path / "half").fine["day"](image)
    assert z.dtype == torch.float32
    assert torch.allclose(z, model.fine["day"](image), atol=0.05)


@pytest.mark.parametrize("name", ["model.json", "coarse.safetensors", "fine.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    save_tiny_model(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_model(tmp_path / "model")


def test_a_directory_of_before_encoder_views_and_branches_were_stored_loads_the_same(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    header = json.loads(path.read_text())
    assert "branches" not in header and header["network"].pop("encoder") == "disam"
    for domain in header["domains"]:
        del domain["view"]
    path.write_text(json.dumps(header))
    loaded = load_model(tmp_path / "model")
    assert loaded.network == model.network and loaded.domains == model.domains
    hashes = [file_sha256(tmp_path / "model" / f"{s}.safetensors") for s in ("coarse", "fine")]
    expected = hashlib.sha256("".join(hashes).encode()).hexdigest()
    assert loaded.identity == model.identity == expected


def test_saving_never_overwrites_a_model(tmp_path):
    save_tiny_model(tmp_path / "model")
    with pytest.raises(OutputError, match="exists"):
        save_tiny_model(tmp_path / "model")


def write_public_checkpoint(prefix: str, encoders: list, decoders: list) -> None:
    for index, network in enumerate([*encoders, *decoders]):
        torch.save(network.state_dict(), f"{prefix}{index}.pth")


def test_a_public_checkpoint_gives_the_same_features_after_import(tmp_path):
    encoders = [Encoder(3, 2), Encoder(3, 2)]
    prefix = str(tmp_path / "300_net_G")
    write_public_checkpoint(prefix, encoders, [Decoder(3, 1), Decoder(3, 1)])
    save_model(import_checkpoint(prefix, DOMAINS), tmp_path / "model")
    model = load_model(tmp_path / "model")
    image = torch.rand(1, 3, 256, 256) * 2 - 1
    for domain, encoder in zip(("day", "night"), encoders, strict=True):
        expected = encoder(image).detach()
        assert torch.allclose(model.coarse[domain](image), expected, atol=1e-5)
        assert torch.allclose(model.fine[domain](image), expected, atol=1e-5)


def test_width_and_blocks_are_read_from_the_weights(tmp_path):
    write_public_checkpoint(str(tmp_path / "1_net_G"), [Encoder(5, 3)], [])
    model = import_checkpoint(str(tmp_path / "1_net_G"), DOMAINS[:1])
    assert (model.network.width, model.network.encoder_blocks) == (5, 3)


def test_a_missing_number_is_named(tmp_path):
    write_public_checkpoint(str(tmp_path / "1_net_G"), [Encoder(3, 1)] * 3, [])
    (tmp_path / "1_net_G1.pth").unlink()
    with pytest.raises(ModelError, match=r"1_net_G1\.pth not found"):
        import_checkpoint(str(tmp_path / "1_net_G"), DOMAINS)


def test_epochs_that_are_there_are_named_where_one_is_missing(tmp_path):
    for epoch in (300, 1200):
        write_public_checkpoint(str(tmp_path / f"{epoch}_net_G"), [Encoder(3, 1)], [])
    with pytest.raises(ModelError, match=r"there: 1200_net_G, 300_net_G"):
        import_checkpoint(str(tmp_path / "600_net_G"), DOMAINS[:1])


@pytest.mark.parametrize(("encoders", "decoders"), [(1, 0), (1, 1), (3, 3)])
def test_another_number_of_encoders_than_domains_is_refused(tmp_path, encoders, decoders):
    prefix = str(tmp_path / "1_net_G")
    write_public_checkpoint(prefix, [Encoder(3, 1)] * encoders, [Decoder(3, 1)] * decoders)
    counted = f"are {encoders} encoders, .* and {decoders} decoders; expected 2"
    with pytest.raises(ModelError, match=counted):
        import_checkpoint(prefix, DOMAINS)


def test_blocks_that_domains_share_are_refused_by_name(tmp_path):
    shared = [Encoder(3, 1), Encoder(3, 1), Decoder(3, 1), Decoder(3, 1)]
    blocks = [ResidualBlock(12), ResidualBlock(12)]
    write_public_checkpoint(str(tmp_path / "1_net_G"), shared, blocks)
    with pytest.raises(ModelError, match=r"G5\.pth has .*netG_n_shared"):
        import_checkpoint(str(tmp_path / "1_net_G"), DOMAINS)


def test_batch_normalization_is_refused_by_name(tmp_path):
    encoder = Encoder(3, 1)
    encoder.model[2] = torch.nn.BatchNorm2d(3)
    write_public_checkpoint(str(tmp_path / "1_net_G"), [encoder], [])
    with pytest.raises(ModelError, match="batch normalization"):
        import_checkpoint(str(tmp_path / "1_net_G"), DOMAINS[:1])


def test_domains_that_the_clock_cannot_tell_apart_are_reported(tmp_path, caplog):
    prefix, months = str(tmp_path / "1_net_G"), (9,)
    write_public_checkpoint(prefix, [Encoder(3, 1)] * 3, [])
    domains = [Domain("one", months=months), Domain("two", months=months), Domain("night")]
    import_checkpoint(prefix, domains)
    assert [r.getMessage()[:24] for r in caplog.records] == ["two has the tags of one,"]


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "1_net_G0.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ModelError, match="not a plain weight file"):
        import_checkpoint(str(tmp_path / "1_net_G"), DOMAINS[:1])
    assert not (tmp_path / "executed").exists()
